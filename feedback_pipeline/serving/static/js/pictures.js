// The kinds of chart this page has, each from plain rows.

import { axis, figure, reference, said } from "./charts.js";
import { between, count, interval, percent, points, signed, number } from "./format.js";

const ROW = 36;
const MOST_OF_LABELS = 210;

/** Estimates with their intervals, one line each: rows {label, value, low, high, note}. */
export function forest({ title, summary, unit, rows, shown = signed, zero = 0 }) {
  const ordered = [...rows].reverse();
  return figure({
    title,
    summary,
    height: 70 + ROW * rows.length,
    rows,
    columns: [
      { name: "", cell: (row) => row.label },
      { name: unit, number: true, cell: (row) => shown(row.value) },
      { name: "95 % interval", number: true, cell: (row) => interval(row.low, row.high, shown) },
    ],
    option: (colours, width) => ({
      grid: { left: ofLabels(width), right: 20, top: 8, bottom: 44 },
      xAxis: axis(colours, unit, { splitNumber: width < 500 ? 3 : 6, axisLabel: { formatter: (value) => shown(value) } }),
      yAxis: {
        type: "category",
        data: ordered.map((row) => row.label),
        axisLabel: { color: colours.ink, width: ofLabels(width) - 12, overflow: "break", lineHeight: 14 },
        axisLine: { show: false },
        axisTick: { show: false },
      },
      tooltip: {
        formatter: ({ dataIndex }) => {
          const row = ordered[dataIndex];
          return row ? said(row.label, `${shown(row.value)} (${interval(row.low, row.high, shown)})`, row.note) : "";
        },
      },
      series: [
        {
          type: "custom",
          encode: { x: [0, 1], y: 2 },
          data: ordered.map((row, at) => [row.low ?? row.value, row.high ?? row.value, at]),
          renderItem: (_, api) => {
            const [from, to] = [0, 1].map((side) => api.coord([api.value(side), api.value(2)]));
            return { type: "line", shape: { x1: from[0], y1: from[1], x2: to[0], y2: to[1] }, style: { stroke: colours.mark, lineWidth: 3 } };
          },
          markLine: reference(colours, "xAxis", zero),
        },
        {
          type: "scatter",
          symbolSize: 10,
          data: ordered.map((row, at) => [row.value, at]),
          itemStyle: { color: colours.mark, borderColor: colours.sheet, borderWidth: 1 },
        },
      ],
    }),
  });
}

/** Pixels for the names beside a chart. */
function ofLabels(width) {
  return Math.min(MOST_OF_LABELS, 0.42 * width);
}

/** A confidence sequence: `looks` are [n, uplift, low, high]; it holds however often one looks. */
export function sequence({ title, summary, looks }) {
  return figure({
    title,
    summary,
    height: 240,
    rows: looks,
    columns: [
      { name: "Executions", number: true, cell: ([n]) => count(n) },
      { name: "Uplift", number: true, cell: ([, uplift]) => points(uplift) },
      { name: "Bounds", number: true, cell: ([, , low, high]) => between(low, high) },
    ],
    option: (colours) => ({
      grid: { left: 8, right: 16, top: 16, bottom: 40, containLabel: true },
      xAxis: axis(colours, "executions with a decision", { minInterval: 1 }),
      yAxis: axis(colours, "", { axisLabel: { formatter: (value) => signed(100 * value, 0) } }),
      tooltip: {
        trigger: "axis",
        formatter: (items) => {
          const look = looks[items[0].dataIndex];
          return said(`after ${count(look[0])} executions`, points(look[1]), between(look[2], look[3]));
        },
      },
      series: [
        ...band(colours, looks.map(([n, , low]) => [n, low]), looks.map(([n, , , high]) => [n, high])),
        {
          type: "line",
          data: looks.map(([n, uplift]) => [n, uplift]),
          showSymbol: looks.length < 2,
          lineStyle: { color: colours.mark, width: 2 },
          itemStyle: { color: colours.mark },
          markLine: reference(colours, "yAxis", 0),
        },
      ],
    }),
  });
}

/** The area between two lines of points. */
function band(colours, lower, upper) {
  return [{
    type: "custom",
    silent: true,
    encode: { x: 0, y: [1, 2] },
    data: lower.map(([x, low], at) => [x, low, upper[at][1]]),
    renderItem: ({ dataIndex }, api) => {
      if (dataIndex > 0) return null;
      const outline = [...upper, ...[...lower].reverse()].map((point) => api.coord(point));
      return { type: "polygon", shape: { points: outline }, style: { fill: colours.mark, opacity: 0.18 } };
    },
  }];
}

/** Approval along a feature, with the cut where there is one: an entry of `patterns` of type quality_threshold. */
export function threshold({ feature, curve, cut, cutInterval, summary }) {
  return figure({
    title: `Approval along ${feature}`,
    summary,
    height: 240,
    rows: curve,
    columns: [
      { name: feature, number: true, cell: (bin) => number(bin.x) },
      { name: "Approved", number: true, cell: (bin) => percent(bin.observed) },
      { name: "Fit", number: true, cell: (bin) => percent(bin.approval) },
      { name: "Outputs", number: true, cell: (bin) => count(bin.n) },
    ],
    option: (colours) => ({
      grid: { left: 8, right: 16, top: 16, bottom: 40, containLabel: true },
      xAxis: axis(colours, feature),
      yAxis: axis(colours, "", { min: 0, max: 1, axisLabel: { formatter: (value) => percent(value) } }),
      tooltip: {
        formatter: ({ data }) => said(`${feature} ${number(data[0])}`, `${percent(data[1])} approved`, data[2] ? `${count(data[2])} outputs` : null),
      },
      series: [
        {
          type: "line",
          step: "middle",
          data: curve.map((bin) => [bin.x, bin.approval]),
          showSymbol: false,
          lineStyle: { color: colours.mark, width: 2 },
          markLine: cut === null ? undefined : reference(colours, "xAxis", cut),
          markArea: cutInterval ? {
            silent: true,
            itemStyle: { color: colours.mark, opacity: 0.12 },
            data: [[{ xAxis: cutInterval[0] }, { xAxis: cutInterval[1] }]],
          } : undefined,
        },
        {
          type: "scatter",
          data: curve.map((bin) => [bin.x, bin.observed, bin.n]),
          symbolSize: ([, , n]) => 5 + Math.min(14, Math.sqrt(n)),
          itemStyle: { color: colours.accent, opacity: 0.75 },
        },
      ],
    }),
  });
}

/** P(approve) as forecast against what people decided: bins of `forecasts/outcomes`. */
export function calibration({ summary, bins }) {
  const filled = bins.filter((bin) => bin.n > 0);
  return figure({
    title: "Forecast against outcome",
    summary,
    height: 300,
    rows: filled,
    columns: [
      { name: "Forecast", number: true, cell: (bin) => percent(bin.forecast) },
      { name: "Approved", number: true, cell: (bin) => percent(bin.approved) },
      { name: "Outputs", number: true, cell: (bin) => count(bin.n) },
    ],
    option: (colours) => ({
      grid: { left: 8, right: 16, top: 16, bottom: 40, containLabel: true },
      xAxis: axis(colours, "P(approve) as forecast", { min: 0, max: 1, axisLabel: { formatter: (value) => percent(value) } }),
      yAxis: axis(colours, "", { min: 0, max: 1, axisLabel: { formatter: (value) => percent(value) } }),
      tooltip: { formatter: ({ data }) => said(`forecast ${percent(data[0])}`, `${percent(data[1])} approved`, `${count(data[2])} outputs`) },
      series: [
        { type: "line", data: [[0, 0], [1, 1]], silent: true, showSymbol: false, tooltip: { show: false }, lineStyle: { color: colours.soft, type: "dashed", width: 1 } },
        {
          type: "scatter",
          data: filled.map((bin) => [bin.forecast, bin.approved, bin.n]),
          symbolSize: ([, , n]) => 8 + Math.min(24, Math.sqrt(n)),
          itemStyle: { color: colours.mark, opacity: 0.8 },
        },
      ],
    }),
  });
}

/** Shares by week, with the number behind each: rows {week, value, n}. */
export function weekly({ title, summary, name, rows, shown = percent, bounds = [0, 1], what = "outputs", when = "week of" }) {
  return figure({
    title,
    summary,
    height: 240,
    rows,
    columns: [
      { name: when, cell: (row) => row.week },
      { name, number: true, cell: (row) => shown(row.value) },
      { name: what, number: true, cell: (row) => count(row.n) },
    ],
    option: (colours) => ({
      grid: { left: 8, right: 16, top: 16, bottom: 24, containLabel: true },
      xAxis: { type: "category", data: rows.map((row) => row.label ?? row.week.slice(5)), axisLabel: { color: colours.soft }, axisLine: { lineStyle: { color: colours.line } } },
      yAxis: axis(colours, "", { min: bounds?.[0], max: bounds?.[1], axisLabel: { formatter: (value) => shown(value) } }),
      tooltip: {
        trigger: "axis",
        formatter: ([{ dataIndex }]) => {
          const row = rows[dataIndex];
          return said(`${when} ${row.week}`, `${name} ${shown(row.value)}`, `${count(row.n)} ${what}`);
        },
      },
      series: [{
        type: "line",
        data: rows.map((row) => row.value),
        symbolSize: 7,
        lineStyle: { color: colours.mark, width: 2 },
        itemStyle: { color: colours.mark },
      }],
    }),
  });
}
