"""Answers over HTTP: conversations searched by V, batched across requests, in OpenAI's form."""
