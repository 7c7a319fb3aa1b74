"""A model hub on one machine: the part of the Hugging Face hub's HTTP API that downloads use."""
