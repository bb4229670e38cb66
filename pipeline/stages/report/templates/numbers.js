// Numbers as text, and round values for axes.
const group = (value) => Math.round(value).toLocaleString("en-US");

function scaled(value) {
  for (const [factor, unit] of [[1e12, " T"], [1e9, " G"], [1e6, " M"], [1e3, " k"]]) {
    if (Math.abs(value) >= factor) return `${Number((value / factor).toPrecision(3))}${unit}`;
  }
  return `${Number(value.toPrecision(3))}`;
}

function exponential(value) {
  if (value === 0) return "0";
  const [digits, power] = value.toExponential(2).split("e");
  return `${Number(digits)}e${Number(power)}`;
}

function clock(seconds) {
  const minutes = seconds / 60;
  if (seconds < 120) return `${Number(seconds.toPrecision(3))} s`;
  return minutes < 120 ? `${Number(minutes.toPrecision(3))} min` : `${Number((minutes / 60).toPrecision(3))} h`;
}

const formats = {
  fixed: (value) => (Math.abs(value) >= 1000 ? scaled(value) : value.toPrecision(4)),
  scientific: exponential,
  si: scaled,
  percent: (value) => `${Number((100 * value).toPrecision(3))} %`,
  seconds: (value) => (value < 1 ? `${Number((1000 * value).toPrecision(3))} ms` : `${Number(value.toPrecision(3))} s`),
  bytes: (value) => `${scaled(value)}B`.replace(/(\d)B/, "$1 B"),
};

function tickText(form, value, spacing) {
  if (form !== "fixed" || Math.abs(value) >= 1000) return formats[form](value);
  return value.toFixed(Math.max(0, -Math.floor(Math.log10(spacing) + 1e-9)));
}

// About `count` round values from low to high, and the distance between them.
function ticks(low, high, count) {
  const rough = Math.max(high - low, 1e-12) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const spacing = power * ([1, 2, 5].find((factor) => factor * power >= rough * 0.999) ?? 10);
  const values = [];
  for (let i = Math.ceil(low / spacing - 1e-9); i * spacing <= high + spacing * 1e-9; i += 1) values.push(i * spacing || 0); // not -0
  return [values, spacing];
}

// The same on an axis of logarithms: powers of ten, and 2 and 5 times these where that leaves few.
function logTicks(low, high) {
  const made = (factors) => {
    const values = [];
    for (let power = Math.floor(low); power <= high; power += 1) values.push(...factors.map((factor) => factor * 10 ** power));
    return values.filter((value) => value >= 10 ** low && value <= 10 ** high);
  };
  const found = [[1], [1, 2, 5]].map(made).find((values) => values.length >= 3);
  return found ? [found, 10 ** Math.floor(low)] : ticks(10 ** low, 10 ** high, 4);
}

// Where a value would stand in a sorted list: the number of items below it.
function below(sorted, value, valueOf) {
  let low = 0;
  let high = sorted.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (valueOf(sorted[middle]) < value) low = middle + 1;
    else high = middle;
  }
  return low;
}

// The item of a sorted list that is nearest to a value.
function nearest(sorted, value, valueOf) {
  const after = below(sorted, value, valueOf);
  const [left, right] = [sorted[after - 1], sorted[after]];
  if (!left || !right) return left ?? right;
  return value - valueOf(left) <= valueOf(right) - value ? left : right;
}
