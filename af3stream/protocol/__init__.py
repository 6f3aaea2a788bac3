"""The wire: typed messages, and the two ways they are spelled (MessagePack and JSON)."""
