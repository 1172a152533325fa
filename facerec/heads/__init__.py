"""Margin-softmax heads: margins (pure functions), class centres, engines, and the heads that combine them."""
