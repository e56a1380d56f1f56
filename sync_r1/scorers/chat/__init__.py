"""Any OpenAI-compatible chat endpoint, or several of them: requests, replies and a cache of them."""
