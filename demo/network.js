// The Omniglot network of the package (src/firstorder/method/networks.py) and its gradient, in 64-bit floating point.
//
// Four blocks: 3x3 convolution of stride 2 without bias, batch normalisation with the statistics of this batch, ReLU.
// Then one dense layer. Parameters are one flat vector in the package's order. Kernels are [out, height, width, in];
// maps are [image, row, column, channel], so a convolution is a product of two matrices with contiguous rows.
//
// A function and not an ES module: the page also works from file://, and its worker is made from this text.
"use strict";

function networkModule() {
  const EPSILON = 1e-3; // of batch normalisation
  const FILTERS = 64;
  const SIDES = [28, 14, 7, 4, 2]; // of each block's input map, and of the last block's output map
  const BLOCKS = 4;
  const FEATURES = FILTERS * SIDES[BLOCKS] ** 2;

  // Where each part of the flat parameter vector begins.
  function layout(way) {
    const blocks = [];
    let offset = 0;
    for (let block = 0; block < BLOCKS; block++) {
      const channels = block === 0 ? 1 : FILTERS;
      const kernel = offset;
      const scale = kernel + FILTERS * 9 * channels;
      const shift = scale + FILTERS;
      offset = shift + FILTERS;
      blocks.push({ channels, kernel, scale, shift, side: SIDES[block], sideOut: SIDES[block + 1] });
    }
    const dense = { kernel: offset, bias: offset + way * FEATURES };
    return { blocks, dense, way, parameters: dense.bias + way };
  }

  // Parameters before any training: kernels are Glorot uniform, biases and shifts 0, scales 1, as the package draws them,
  // though with other numbers. `random` returns numbers in [0, 1).
  function initial(shape, random) {
    const parameters = new Float64Array(shape.parameters);
    const draw = (start, length, limit) => {
      for (let i = start; i < start + length; i++) parameters[i] = (2 * random() - 1) * limit;
    };
    for (const { kernel, scale, channels } of shape.blocks) {
      draw(kernel, FILTERS * 9 * channels, Math.sqrt(6 / (9 * (FILTERS + channels))));
      parameters.fill(1, scale, scale + FILTERS);
    }
    draw(shape.dense.kernel, shape.way * FEATURES, Math.sqrt(6 / (shape.way + FEATURES)));
    return parameters;
  }

  function dot(a, aStart, b, bStart, length) {
    let sum = 0;
    for (let i = 0; i < length; i++) sum += a[aStart + i] * b[bStart + i];
    return sum;
  }

  // target += factor * row
  function addRow(target, targetStart, factor, row, rowStart, length) {
    for (let i = 0; i < length; i++) target[targetStart + i] += factor * row[rowStart + i];
  }

  // target += the sum over j < count of factors[start + j * stride] times row j. Four rows at a time: less memory traffic.
  function addRows(target, targetStart, factors, start, stride, count, rows, rowStart, width) {
    let j = 0;
    for (; j + 3 < count; j += 4) {
      const f = start + j * stride;
      const [f0, f1, f2, f3] = [factors[f], factors[f + stride], factors[f + 2 * stride], factors[f + 3 * stride]];
      const r0 = rowStart + j * width;
      const [r1, r2, r3] = [r0 + width, r0 + 2 * width, r0 + 3 * width];
      for (let i = 0; i < width; i++) {
        target[targetStart + i] += f0 * rows[r0 + i] + f1 * rows[r1 + i] + f2 * rows[r2 + i] + f3 * rows[r3 + i];
      }
    }
    for (; j < count; j++) addRow(target, targetStart, factors[start + j * stride], rows, rowStart + j * width, width);
  }

  // Call use(position, tap, pixel) for each tap of each window that lies inside the map. TensorFlow's "same" padding
  // at stride 2: after the map only for an even side, on both sides for an odd one.
  function eachTap(block, count, use) {
    const { side, sideOut } = block;
    const before = side % 2;
    for (let position = 0; position < count * sideOut * sideOut; position++) {
      const image = Math.floor(position / (sideOut * sideOut));
      const top = 2 * (Math.floor(position / sideOut) % sideOut) - before;
      const left = 2 * (position % sideOut) - before;
      for (let tap = 0; tap < 9; tap++) {
        const row = top + Math.floor(tap / 3);
        const column = left + (tap % 3);
        if (row < 0 || column < 0 || row >= side || column >= side) continue;
        use(position, tap, (image * side + row) * side + column);
      }
    }
  }

  // The input window of each output position: [positions, 9 * channels], 0 outside the map.
  function windows(block, maps, count) {
    const { channels } = block;
    const found = new Float64Array(count * block.sideOut ** 2 * 9 * channels);
    eachTap(block, count, (position, tap, pixel) => {
      const to = (position * 9 + tap) * channels;
      for (let c = 0; c < channels; c++) found[to + c] = maps[pixel * channels + c];
    });
    return found;
  }

  // Each window times each kernel, four kernels at a time: [positions, FILTERS].
  function convolve(block, parameters, patches, positions) {
    const width = 9 * block.channels;
    const out = new Float64Array(positions * FILTERS);
    for (let p = 0; p < positions; p++) {
      const a = p * width;
      for (let f = 0; f < FILTERS; f += 4) {
        const b0 = block.kernel + f * width;
        const [b1, b2, b3] = [b0 + width, b0 + 2 * width, b0 + 3 * width];
        let [s0, s1, s2, s3] = [0, 0, 0, 0];
        for (let i = 0; i < width; i++) {
          const x = patches[a + i];
          s0 += x * parameters[b0 + i];
          s1 += x * parameters[b1 + i];
          s2 += x * parameters[b2 + i];
          s3 += x * parameters[b3 + i];
        }
        out.set([s0, s1, s2, s3], p * FILTERS + f);
      }
    }
    return out;
  }

  // Normalise every channel in place with this batch's mean and variance; return 1 / standard deviation.
  function normalise(maps, positions) {
    const inverse = new Float64Array(FILTERS);
    for (let f = 0; f < FILTERS; f++) {
      let mean = 0;
      for (let p = 0; p < positions; p++) mean += maps[p * FILTERS + f];
      mean /= positions;
      let variance = 0;
      for (let p = 0; p < positions; p++) variance += (maps[p * FILTERS + f] - mean) ** 2;
      inverse[f] = 1 / Math.sqrt(variance / positions + EPSILON);
      for (let p = 0; p < positions; p++) maps[p * FILTERS + f] = (maps[p * FILTERS + f] - mean) * inverse[f];
    }
    return inverse;
  }

  function forwardBlock(block, parameters, maps, count) {
    const positions = count * block.sideOut ** 2;
    const patches = windows(block, maps, count);
    const normal = convolve(block, parameters, patches, positions);
    const inverse = normalise(normal, positions);
    const out = new Float64Array(normal.length);
    for (let i = 0; i < normal.length; i++) {
      const f = i % FILTERS;
      out[i] = Math.max(0, normal[i] * parameters[block.scale + f] + parameters[block.shift + f]);
    }
    return { patches, normal, inverse, out };
  }

  // The last maps as the dense layer reads them: channel first, then position.
  function flatten(maps, count) {
    const positions = FEATURES / FILTERS;
    const features = new Float64Array(count * FEATURES);
    for (let image = 0; image < count; image++) {
      for (let p = 0; p < positions; p++) {
        for (let f = 0; f < FILTERS; f++) {
          features[image * FEATURES + f * positions + p] = maps[(image * positions + p) * FILTERS + f];
        }
      }
    }
    return features;
  }

  function forward(shape, parameters, images) {
    const count = images.length;
    let maps = new Float64Array(count * SIDES[0] ** 2);
    images.forEach((image, i) => maps.set(image, i * SIDES[0] ** 2));
    const kept = [];
    for (const block of shape.blocks) {
      kept.push(forwardBlock(block, parameters, maps, count));
      maps = kept[kept.length - 1].out;
    }
    const features = flatten(maps, count);
    const logits = new Float64Array(count * shape.way);
    for (let i = 0; i < count; i++) {
      for (let c = 0; c < shape.way; c++) {
        const weights = shape.dense.kernel + c * FEATURES;
        logits[i * shape.way + c] =
          parameters[shape.dense.bias + c] + dot(features, i * FEATURES, parameters, weights, FEATURES);
      }
    }
    return { logits, features, kept };
  }

  // Logits [image][class] of images that are normalised together.
  function logits(shape, parameters, images) {
    const flat = forward(shape, parameters, images).logits;
    return images.map((_, i) => Array.from(flat.subarray(i * shape.way, (i + 1) * shape.way)));
  }

  function softmax(values) {
    const most = Math.max(...values);
    const powers = Array.from(values, (value) => Math.exp(value - most));
    const sum = powers.reduce((a, b) => a + b, 0);
    return powers.map((power) => power / sum);
  }

  // Gradient of the dense layer; returns the slope of the loss with respect to the last block's output maps.
  function backwardDense(shape, parameters, features, slopes, count, gradient) {
    const positions = FEATURES / FILTERS;
    const slopeMaps = new Float64Array(count * FEATURES);
    const row = new Float64Array(FEATURES);
    for (let i = 0; i < count; i++) {
      row.fill(0);
      for (let c = 0; c < shape.way; c++) {
        const slope = slopes[i * shape.way + c];
        const weights = shape.dense.kernel + c * FEATURES;
        gradient[shape.dense.bias + c] += slope;
        addRow(gradient, weights, slope, features, i * FEATURES, FEATURES);
        addRow(row, 0, slope, parameters, weights, FEATURES);
      }
      for (let p = 0; p < positions; p++) {
        for (let f = 0; f < FILTERS; f++) slopeMaps[(i * positions + p) * FILTERS + f] = row[f * positions + p];
      }
    }
    return slopeMaps;
  }

  // Through ReLU and batch normalisation, in place: from the slope of a block's output to that of its convolution.
  function backwardNormalise(block, parameters, kept, slope, positions, gradient) {
    for (let f = 0; f < FILTERS; f++) {
      let sum = 0;
      let product = 0;
      for (let i = f; i < slope.length; i += FILTERS) {
        if (kept.out[i] <= 0) slope[i] = 0;
        sum += slope[i];
        product += slope[i] * kept.normal[i];
      }
      gradient[block.shift + f] += sum;
      gradient[block.scale + f] += product;
      const factor = parameters[block.scale + f] * kept.inverse[f];
      for (let i = f; i < slope.length; i += FILTERS) {
        slope[i] = factor * (slope[i] - sum / positions - (kept.normal[i] * product) / positions);
      }
    }
  }

  // Through a convolution: add to the kernel's gradient; return the slope of its input maps if somebody needs it.
  function backwardConvolve(block, parameters, patches, slope, count, gradient, needsInput) {
    const width = 9 * block.channels;
    const positions = count * block.sideOut ** 2;
    for (let f = 0; f < FILTERS; f++) {
      addRows(gradient, block.kernel + f * width, slope, f, FILTERS, positions, patches, 0, width);
    }
    if (!needsInput) return null;
    const slopePatches = new Float64Array(positions * width);
    for (let p = 0; p < positions; p++) {
      addRows(slopePatches, p * width, slope, p * FILTERS, 1, FILTERS, parameters, block.kernel, width);
    }
    const slopeMaps = new Float64Array(count * block.side ** 2 * block.channels);
    eachTap(block, count, (position, tap, pixel) => {
      addRow(slopeMaps, pixel * block.channels, 1, slopePatches, (position * 9 + tap) * block.channels, block.channels);
    });
    return slopeMaps;
  }

  // Cross-entropy SUMMED over the images, and its slope with respect to their logits.
  function crossEntropy(shape, flat, labels) {
    const slopes = new Float64Array(flat.length);
    let loss = 0;
    labels.forEach((label, i) => {
      const chances = softmax(flat.subarray(i * shape.way, (i + 1) * shape.way));
      loss -= Math.log(chances[label]);
      chances.forEach((chance, c) => (slopes[i * shape.way + c] = chance - (c === label ? 1 : 0)));
    });
    return { loss, slopes };
  }

  function loss(shape, parameters, images, labels) {
    return crossEntropy(shape, forward(shape, parameters, images).logits, labels).loss;
  }

  // The loss of a mini-batch and its gradient with respect to all parameters.
  function gradient(shape, parameters, images, labels) {
    const count = images.length;
    const { logits: flat, features, kept } = forward(shape, parameters, images);
    const { loss, slopes } = crossEntropy(shape, flat, labels);
    const found = new Float64Array(shape.parameters);
    let slope = backwardDense(shape, parameters, features, slopes, count, found);
    for (let b = BLOCKS - 1; b >= 0; b--) {
      const block = shape.blocks[b];
      backwardNormalise(block, parameters, kept[b], slope, count * block.sideOut ** 2, found);
      slope = backwardConvolve(block, parameters, kept[b].patches, slope, count, found, b > 0);
    }
    return { loss, gradient: found };
  }

  return { layout, initial, logits, loss, gradient, softmax };
}
