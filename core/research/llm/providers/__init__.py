"""The model servers: Anthropic, and OpenAI with every server that speaks its protocols."""
