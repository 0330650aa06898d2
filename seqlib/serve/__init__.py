"""A saved model over HTTP: requests of many clients in batches, answers as the command line gives them."""
