"""The router in front of traffic: what it is shipped as, and what it promises."""
