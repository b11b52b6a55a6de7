"""Networks in PyTorch: trunks, training, export. Needs the extra `train`; searching does not."""
