"""Palette: the colors of experiments and conditions in all pictures, whatever draws them."""

# Experiments and conditions have different palettes; the first six colors suit the common color vision deficiencies.
EXPERIMENT_COLORS = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#8C6D31"]
EXPERIMENT_COLORS += ["#D55E00", "#5B4B8A", "#A6BF4B", "#1B3A57", "#F3B6C6", "#7FB7A4"]
CONDITION_COLORS = ["#7A8794", "#D1495B", "#6A4C93", "#2A9D8F", "#F4A259", "#3D405B"]
CONDITION_COLORS += ["#B5838D", "#98C1D9", "#606C38", "#FFCB69", "#9D4EDD", "#264653"]
