"""The engine: its interface, the scheduler and caches, and the models behind them."""
