"""What a checkpoint is for: prediction, ground truth, gallery, thresholds, export, published weights."""
