"""The nemesis: real processes of a whole cluster, hurt under a seed while people buy, and a verdict on what they were told."""
