"""What hears and speaks: the contract, the scheduler, and the engines behind them."""
