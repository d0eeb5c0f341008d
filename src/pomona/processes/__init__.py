"""Child processes of the workers: both the parent's and the child's side."""
