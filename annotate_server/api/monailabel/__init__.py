"""The dialect of MONAI Label's clients, over the same workflows: doors only, no state of its own."""
