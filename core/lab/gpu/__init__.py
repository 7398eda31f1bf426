"""The GPUs of the machine: which of them a session may use."""
