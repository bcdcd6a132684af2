// The scan of this page, what is shown of it, and the places and colours of its voxels.
"use strict";

const element = (id) => document.getElementById(id);
const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

const scene = JSON.parse(element("scene").textContent);
const strides = [1, scene.shape[0], scene.shape[0] * scene.shape[1]];
const voxelCount = strides[2] * scene.shape[2];
const state = {
  cursor: [...scene.centre],
  window: [...scene.window],
  opacity: 0.4,
  outlines: true,
  shown: new Uint8Array(scene.labels.length + 1).fill(1),
};

async function unpack(id, length) {
  const holder = element(id);
  const text = holder.textContent;
  holder.remove();
  const parts = [];
  const step = 1 << 20; // a multiple of four, base64's unit
  for (let start = 0; start < text.length; start += step) {
    parts.push(Uint8Array.from(atob(text.slice(start, start + step)), (c) => c.charCodeAt(0)));
  }
  const reader = new Blob(parts)
    .stream()
    .pipeThrough(new DecompressionStream("deflate"))
    .getReader();
  const bytes = new Uint8Array(length);
  let filled = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    bytes.set(value, filled);
    filled += value.length;
  }
  if (filled !== length) throw new Error(`${id} has ${filled} of ${length} bytes`);
  return bytes;
}

const offsetOf = (place) => place[0] + place[1] * strides[1] + place[2] * strides[2];

const placeOf = (offset) => [
  offset % scene.shape[0],
  Math.floor(offset / strides[1]) % scene.shape[1],
  Math.floor(offset / strides[2]),
];

/** Index in the scan's file of the voxel whose label and place the one shown has. */
function storedIndex(place) {
  const { extents, factors, axes, reverse } = scene.stored;
  const index = [0, 0, 0];
  place.forEach((block, axis) => {
    const middle = Math.min(
      block * factors[axis] + Math.floor(factors[axis] / 2),
      extents[axis] - 1,
    );
    index[axes[axis]] = reverse[axis] ? extents[axis] - 1 - middle : middle;
  });
  return index;
}

/** Millimetres towards right, anterior and superior. */
function positionMm(place) {
  const [i, j, k] = storedIndex(place);
  return scene.stored.affine
    .slice(0, 3)
    .map((row) => row[0] * i + row[1] * j + row[2] * k + row[3]);
}

/** Length in millimetres of a step of so many voxels along the axes of display. */
function distanceMm(step) {
  const { factors, axes, reverse, affine } = scene.stored;
  const stored = [0, 0, 0];
  step.forEach((voxels, axis) => {
    stored[axes[axis]] = (reverse[axis] ? -1 : 1) * voxels * factors[axis];
  });
  const along = (row) => row[0] * stored[0] + row[1] * stored[1] + row[2] * stored[2];
  return Math.hypot(...affine.slice(0, 3).map(along));
}

function placeText(positions, axis) {
  const position = positions[axis];
  return `${["LR", "PA", "IS"][axis][Number(position >= 0)]} ${Math.abs(position).toFixed(1)}`;
}

/** The voxel of a label that is nearest to the mean of them all; null if none is left. */
function middleOf(rank, labels) {
  const sum = [0, 0, 0];
  let count = 0;
  const visitAll = (visit) => {
    for (let at = labels.indexOf(rank); at >= 0; at = labels.indexOf(rank, at + 1))
      visit(placeOf(at));
  };
  visitAll((place) => {
    count += 1;
    place.forEach((value, axis) => (sum[axis] += value));
  });
  let nearest = null;
  let least = Infinity;
  visitAll((place) => {
    const distance = Math.hypot(
      ...place.map((value, axis) => (value - sum[axis] / count) * scene.spacing_mm[axis]),
    );
    if (distance < least) [least, nearest] = [distance, place];
  });
  return nearest;
}

// Colours are the four bytes of a pixel in a Uint32Array.

const opaque = 0xff000000;

function greyOfLevels() {
  const [lower, upper] = state.window;
  return Uint32Array.from(scene.intensities, (intensity) => {
    const share = (intensity - lower) / Math.max(upper - lower, 1e-12);
    return (opaque | (Math.round(255 * clamp(share, 0, 1)) * 0x010101)) >>> 0;
  });
}

function coloursOfLabels(opacity) {
  const alpha = Math.round(255 * clamp(opacity, 0, 1));
  const colours = scene.labels.map(
    ([red, green, blue]) => ((alpha << 24) | (blue << 16) | (green << 8) | red) >>> 0,
  );
  return Uint32Array.from([0, ...colours]);
}
