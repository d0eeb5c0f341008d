"""Table in, result out."""
