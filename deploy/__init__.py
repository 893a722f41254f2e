"""QuantNet -> cores -> run -> energy: where the network sits, what it does there, and what that costs."""
