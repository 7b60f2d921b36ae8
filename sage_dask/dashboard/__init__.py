"""What people see of the jobs of a cluster: page, metrics, and the news behind them."""
