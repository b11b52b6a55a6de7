"""The folder of a job: what is to be embedded, and the Parquet parts, which are the truth."""
