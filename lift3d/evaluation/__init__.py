"""How good a lifted model is: the benchmark of heads with known truth, relighting, metrics."""
