"""What all language-model researchers share: conversation, prompt, tools, prices."""
