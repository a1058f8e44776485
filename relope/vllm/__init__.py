"""vLLM as a process of its own: its command, the connector that it loads, and the states that it hands over."""
