"""Networks: cells, recurrent layers and heads on flat parameters, and what can be asked of them."""
