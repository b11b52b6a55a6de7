"""One file for each row of the tables; all are a `Method`."""
