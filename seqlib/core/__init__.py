"""The autodiff core: arrays, gradients, compilation. It knows nothing about text."""
