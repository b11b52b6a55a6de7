/** An image of the gallery, as large as browsers can show it. */

const SHOWN_BY_BROWSERS = ["JPEG", "PNG", "WEBP", "GIF", "AVIF"];
const MOST_PIXELS = 16e6;

/**
 * The thumbnail at once, what is sharper as soon as it is there: the file itself, or a smaller copy
 * of what browsers do not show (HEIC, TIFF) or would take long to decode.
 * @param {HTMLImageElement} image
 * @param {import("./api.js").GalleryImage} photo
 */
export function showPhoto(image, photo) {
  image.src = `${photo.thumbnail}?size=512`;
  image.alt = photo.path;
  const direct = photo.width * photo.height <= MOST_PIXELS && SHOWN_BY_BROWSERS.includes(photo.format.toUpperCase());
  const sharp = new Image();
  sharp.src = direct ? photo.original : `${photo.thumbnail}?size=2048`;
  const replace = () => {
    if (image.alt === photo.path) image.src = sharp.src;
  };
  sharp.decode().then(replace, () => {});
}
