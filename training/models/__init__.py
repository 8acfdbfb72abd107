"""Networks, written by hand, with the parameter names of Hugging Face."""
