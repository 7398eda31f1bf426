"""Language-model researchers: conversation, prompt, tools, retries, keys and prices."""
