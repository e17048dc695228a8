"""Any server that speaks the OpenAI protocol, as a model: completions or chat, texts in and out."""
