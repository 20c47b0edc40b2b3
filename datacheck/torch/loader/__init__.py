"""The loader: samples that raise, are not finite or break their schema are caught before they cost a training step."""
