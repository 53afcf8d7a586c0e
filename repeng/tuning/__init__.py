"""Weight-tuning baselines: reward models by LoRA, prompt-tuning and full fine-tuning."""
