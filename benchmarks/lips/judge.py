"""Puts the measures together: for a film, for an avatar, for a long utterance."""

from __future__ import annotations

import numpy as np

from benchmarks.lips.cases import SILENCE_S, Case
from benchmarks.lips.faces import FaceReader, FaceTrack
from benchmarks.lips.film import SOUND_RATE, Film, read_film
from benchmarks.lips.motion import count_blinks, head_motion, longest_freeze_s
from benchmarks.lips.mouth import Closure, agreement, closures, intended_gap, silence_motion
from benchmarks.lips.picture import crop_seam, lower_face_seam, most_different, sharpness, tear, without_sway
from benchmarks.lips.stage import FilmSet, Take
from benchmarks.lips.timing import loudness, mouth_offset, sound_delay
from museserve.timebase import FPS, SPEECH_RATE
from musetalk.speech_cues.controls import JAW, N_CONTROLS, SEAL

MINUTE_S = 60.0
SHUT_LOOKS = 12  # frames from which the gap of shut lips is learned
SEAM_ROWS = 96
CLOSES = 0.15  # of the speaking range: a p, b or m that stays wider than this does not close

Measures = dict[str, float]


class Judge:
    """Measures what `film_set` films. What holds for an avatar, such as its gap when shut, is found out once."""

    def __init__(self, film_set: FilmSet) -> None:
        self._set = film_set
        self._reader = FaceReader()
        self._shut: dict[str, float] = {}
        self.left_open: dict[str, list[Closure]] = {}  # case -> p, b, m that do not close

    def close(self) -> None:
        self._reader.close()

    def kinds(self, case: Case) -> frozenset[str]:
        """The kinds of case that bars know."""
        smile = ("smile",) if self._set.rig(case.avatar).line.is_open else ()
        return frozenset(("film", "sound" if case.sound_only else "phonemes", *smile))

    def utterance(self, case: Case, take: Take) -> Measures:
        """Everything that can be seen and heard in one film.

        Raises:
            ValueError: the film has not the frames that were meant, or its mouth does not move.
        """
        film = read_film(take.path, self._reader)
        if len(film.times) != take.n_frames:
            raise ValueError(f"{case.id}: {len(film.times)} frames in the film, {take.n_frames} were meant")
        faces, gap = film.faces, film.faces.lip_gap
        rows = self._set.intended(take).rows
        sound = loudness(film.pcm, SOUND_RATE, film.sound_start_s)
        speaking, near_speech = (np.interp(film.times, sound.times, curve.astype(float)) > 0.5 for curve in (sound.speech, sound.surroundings))
        offset = mouth_offset(film.times, gap, sound)
        head = head_motion(faces.skull)
        gap_r, gap_lag = agreement(gap, intended_gap(self._set.rig(case.avatar), rows))
        # A smiling portrait opens its jaw in silence, which no row asks for.
        asked = rows.any(axis=1) if "smile" in self.kinds(case) else np.ones(len(rows), bool)
        jaw_r, _ = agreement(np.where(asked, faces.jaw_open, np.nan), rows[:, JAW].astype(float))
        measures = {
            "face_found": 100.0 * float(faces.found.mean()),
            "gap_r": gap_r,
            "gap_lag": float(gap_lag),
            "jaw_r": jaw_r,
            "av_offset": 1e3 * offset.seconds,
            "envelope_r": offset.correlation,
            "silence_motion": silence_motion(gap, ~near_speech, speaking),
            "jitter": head.jitter_median,
            "jitter_p95": head.jitter_p95,
            "jump": head.jump,
            "head_range": head.reach,
            "blinks": MINUTE_S * count_blinks(faces.eye_opening, faces.blink) / film.duration_s,
            "freeze": longest_freeze_s(film.changes, film.frame_s, speaking),
            "duration": film.duration_s,
            **_clocks(film),
        }
        if take.phonemes is not None:
            found = closures(film.times, gap, take.phonemes, self._shut_gap(case.avatar), speaking)
            self.left_open[case.id] = [closure for closure in found if closure.opening > CLOSES]
            measures["closure_worst"] = 100.0 * max(closure.opening for closure in found)
            measures["closures_open"] = float(len(self.left_open[case.id]))
            measures["closures"] = float(len(found))
        return measures

    def avatar(self, case: Case, take: Take) -> Measures:
        """What holds for an avatar whatever it says, measured with what it says in `take`."""
        rig = self._set.rig(case.avatar)
        still = without_sway(rig)
        rows = self._set.intended(take).rows
        telling = most_different(rows, SEAM_ROWS)
        held = read_film(self._set.film_still(f"{case.avatar}-still", still, take), self._reader)
        mean, spread = sharpness(rig, self._set.frames(case.avatar), self._set.portrait(case.avatar))
        return {
            "still_jitter": head_motion(held.faces.skull).jitter_median,
            "lower_face_seam": float(lower_face_seam(still, rows[telling])),
            "crop_seam": float(crop_seam(rig, telling, rows[telling])),
            "tear": tear(rig, rows),
            "sharpness": mean,
            "sharpness_sd": spread,
        }

    def long(self, take: Take) -> Measures:
        """Whether picture and sound stay together over minutes: the first minute against the last."""
        end = take.n_frames / FPS - SILENCE_S
        windows = [(0.0, MINUTE_S), (end - MINUTE_S, end)]
        film = read_film(take.path, self._reader, lambda second: any(start <= second < stop for start, stop in windows))
        offsets, delays = [], []
        for start, stop in windows:
            part = film.between(start, stop)
            offsets.append(mouth_offset(part.times, part.faces.lip_gap, loudness(part.pcm, SOUND_RATE, part.sound_start_s)).seconds)
            heard_at = part.sound_start_s + np.arange(len(part.pcm)) / SOUND_RATE
            source = np.interp(heard_at, np.arange(len(take.pcm)) / SPEECH_RATE, take.pcm).astype(np.float32)
            delays.append(sound_delay(source, part.pcm, SOUND_RATE // 4) / SOUND_RATE)
        return {
            "duration": film.duration_s,
            "av_offset_first": 1e3 * offsets[0],
            "av_offset_last": 1e3 * offsets[1],
            "av_drift": 1e3 * (offsets[1] - offsets[0]),
            "sound_delay_first": 1e3 * delays[0],
            "sound_delay_last": 1e3 * delays[1],
            "sound_drift": 1e3 * (delays[1] - delays[0]),
            "frame_clock": 1e3 * float(np.abs(film.times - np.arange(len(film.times)) / FPS).max()),
            **_clocks(film),
        }

    def _shut_gap(self, avatar: str) -> float:
        """The gap of this avatar's lips when they are shut: sealed, if the portrait shows them apart."""
        if avatar not in self._shut:
            row = np.zeros(N_CONTROLS, np.float32)
            row[SEAL] = 1.0
            frames = self._set.frames_with(avatar, row, SHUT_LOOKS)
            self._shut[avatar] = float(np.nanmedian(FaceTrack.of([self._reader.read(frame) for frame in frames]).lip_gap))
        return self._shut[avatar]


def _clocks(film: Film) -> Measures:
    return {
        "start_offset": 1e3 * (film.sound_start_s - float(film.times[0])),
        "duration_difference": 1e3 * (film.sound_s - film.duration_s),
    }
