"""How several processes share gradients, weights and the optimizer's memory."""
