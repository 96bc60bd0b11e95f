"""Humanoid tracking: clips, environment, rewards, PPO."""
