"""The pilot study's variant: a reference image that is blurred before the model sees it.

Source: the pilot study of arXiv 2512.01334: a slight blur of the input image raises adherence to the prompt (and ruins
the image): pipe(image=blurred_image(image, sigma), ...).
"""

from PIL import Image, ImageFilter

from alignvid.modulation.pilot import check_sigma


def blurred_image(image: Image.Image, sigma: float) -> Image.Image:
    """A copy of an image, blurred with a standard deviation in pixels; 0 gives an equal image."""
    check_sigma(sigma)
    return image.filter(ImageFilter.GaussianBlur(sigma)) if sigma > 0 else image.copy()
