"""Networks as folders of the Hugging Face hub: written, read back, uploaded."""
