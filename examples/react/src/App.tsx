import "@museserve/avatar-player";
import type { AvatarPlayer } from "@museserve/avatar-player";
import { Interview } from "@museserve/avatar-player/interview.js";
import type {} from "@museserve/avatar-player/react";
import { useEffect, useRef, useState } from "react";

const QUESTIONS = ["What are you proud of?", "What would you do differently?"];

export function App() {
  const player = useRef<AvatarPlayer>(null);
  const interview = useRef<Interview>(null);
  const [step, setStep] = useState("ready");
  const [asked, setAsked] = useState("");
  const [problem, setProblem] = useState("");
  const [captions, setCaptions] = useState(true);

  // In development React mounts twice: the element ends its session when it leaves the page, and begins another.
  useEffect(() => {
    player.current?.connect().catch(() => {}); // told by `error`
  }, []);

  async function begin() {
    if (!player.current) return;
    await player.current.unlock(); // inside the click: browsers want a gesture before sound
    interview.current = new Interview(player.current, QUESTIONS, {
      onChange: ({ state, question }) => {
        setStep(state);
        setAsked(question);
      },
      onDone: ({ entries }) => setAsked(`${entries.length} questions were asked.`),
    });
    interview.current.begin();
  }

  return (
    <>
      <avatar-player
        ref={player}
        avatar="woman"
        captions={captions ? "on" : "off"}
        onerror={({ detail }) => setProblem(detail.message)}
        onready={() => setProblem("")}
      />
      <p>{asked}</p>
      <p role="alert">{problem}</p>
      {step === "ready" || step === "done" ? (
        <button onClick={begin}>Begin</button>
      ) : step === "listening" ? (
        <button onClick={() => interview.current?.next()}>I have answered</button>
      ) : (
        <button onClick={() => interview.current?.interrupt()}>Answer now</button>
      )}{" "}
      <label>
        <input type="checkbox" checked={captions} onChange={({ target }) => setCaptions(target.checked)} /> Captions
      </label>
    </>
  );
}
