"""Will it fit, and what will it cost: the compilers asked, with or without the hardware."""
