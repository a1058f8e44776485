"""A model that runs elsewhere: its address, its client, and the requests that it is sent."""
