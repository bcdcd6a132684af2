"""U-Nets laid out by nnU-Net's plans: nnU-Net's own, the Taming Mambas networks and U-Mamba."""
