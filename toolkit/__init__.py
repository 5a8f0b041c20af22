"""Pure building blocks: layers, compositing, mattes, shadows, saliency, inpainting, codecs."""
