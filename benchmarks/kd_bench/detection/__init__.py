"""Object detection in the suite: COCO files, generated scenes, COCO's metrics, and pictures of detections."""
