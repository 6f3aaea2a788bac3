// Sources of audio: the microphone (AudioWorklet) and files (decoded whole, then paced). Samples are mono Int16Array.

import { UNREACHABLE } from "./words.js";

const BLOCK_S = 0.1;
const FILE_RATE = 16_000; // what the model hears
const RATES = { min: 8_000, max: 48_000 };

export const canCapture = () => Boolean(navigator.mediaDevices?.getUserMedia && window.AudioWorkletNode);

/** Opens the microphone and calls `onSamples` about ten times a second; `rate` asks for one that a session has. */
export async function openMicrophone(onSamples, onLost, rate) {
  const audio = { channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: true };
  const stream = await navigator.mediaDevices.getUserMedia({ audio });
  let context = new AudioContext(rate ? { sampleRate: rate } : {});
  if (context.sampleRate < RATES.min || context.sampleRate > RATES.max) {
    await context.close();
    context = new AudioContext({ sampleRate: RATES.max });
  }
  try {
    await context.audioWorklet.addModule("/page/worklet.js");
  } catch {
    for (const each of stream.getTracks()) each.stop();
    await context.close();
    throw new Error(UNREACHABLE);
  }
  const frames = Math.round(context.sampleRate * BLOCK_S);
  const node = new AudioWorkletNode(context, "capture", {
    numberOfOutputs: 0, channelCount: 1, channelCountMode: "explicit", processorOptions: { frames },
  });
  let finished;
  const last = new Promise((resolve) => { finished = resolve; });
  node.port.onmessage = ({ data }) => (data ? onSamples(toInt16(data)) : finished());
  const [track] = stream.getAudioTracks();
  track.onended = onLost;

  return {
    name: track.label || "Microphone",
    rate: context.sampleRate,
    /** Starts the flow of samples; none are taken before. False where the browser waits for a person to act first. */
    async start() {
      await Promise.race([context.resume(), sleep(500)]);
      const allowed = context.state === "running";
      context.createMediaStreamSource(stream).connect(node);
      return allowed;
    },
    resume: () => context.resume(),
    /** Resolves once the last samples have been handed over. */
    async stop() {
      track.onended = null;
      node.port.postMessage("stop");
      await Promise.race([last, sleep(300)]);
      for (const each of stream.getTracks()) each.stop();
      await context.close();
    },
  };
}

/** Decodes a file; `run` then hands its samples over, at the speed of speech or as fast as the session takes them. */
export async function openFile(file) {
  const context = new AudioContext({ sampleRate: FILE_RATE });
  let buffer;
  try {
    buffer = await context.decodeAudioData(await file.arrayBuffer());
  } catch {
    await context.close();
    throw new Error(`“${file.name}” is not an audio file this browser can read. WAV, MP3, M4A, OGG and FLAC usually work.`);
  }
  const samples = mixDown(buffer);
  let stopped = false;

  return {
    file,
    name: file.name,
    rate: FILE_RATE,
    duration_s: buffer.duration,
    /** `fast()` may change its mind midway; `ready()` resolves when the session can take more. */
    async run(onSamples, { fast, ready }) {
      const block = FILE_RATE * BLOCK_S;
      let player = null;
      for (let at = 0; at < samples.length && !stopped; at += block) {
        if (fast()) {
          player?.stop();
          player = null;
          if (at % FILE_RATE === 0) await sleep(0); // lets the page draw
          await ready();
        } else {
          player ??= await play(context, buffer, at / FILE_RATE);
          while (player.position() < (at + block) / FILE_RATE && !stopped && !fast()) await sleep(20);
        }
        if (!stopped) onSamples(samples.subarray(at, at + block));
      }
      player?.stop();
      return !stopped;
    },
    async stop() {
      stopped = true;
      if (context.state !== "closed") await context.close();
    },
  };
}

/** Plays aloud from `from` seconds on; where the browser does not allow sound yet, the clock keeps the pace instead. */
async function play(context, buffer, from) {
  await Promise.race([context.resume(), sleep(300)]);
  const audible = context.state === "running";
  const now = () => (audible ? context.currentTime : performance.now() / 1000);
  const source = new AudioBufferSourceNode(context, { buffer });
  source.connect(context.destination);
  const began = now();
  if (audible) source.start(0, from);
  return { position: () => from + now() - began, stop: () => audible && source.stop() };
}

function mixDown(buffer) {
  const mixed = new Float32Array(buffer.length);
  for (let channel = 0; channel < buffer.numberOfChannels; channel += 1) {
    const samples = buffer.getChannelData(channel);
    for (let at = 0; at < mixed.length; at += 1) mixed[at] += samples[at] / buffer.numberOfChannels;
  }
  return toInt16(mixed);
}

function toInt16(samples) {
  const whole = new Int16Array(samples.length);
  for (let at = 0; at < samples.length; at += 1) {
    whole[at] = Math.max(-32_768, Math.min(32_767, Math.round(samples[at] * 32_768)));
  }
  return whole;
}

export const sleep = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });

/** Resolves with the next click or key, for which a browser may wait before it lends its audio. */
export function somebodyActs() {
  return new Promise((resolve) => {
    for (const act of ["pointerdown", "keydown"]) addEventListener(act, resolve, { once: true });
  });
}
