"""Model servers: Anthropic, OpenAI, and OpenAI-compatible servers."""
