"""Child processes of the workers, from inside and from outside."""
