// A hook for React 18 and later:
//
//   const isimud = connect({publisher: "news"});          // once, outside of components
//   function Score() {
//     const {state, status} = useTopic(isimud, "sports", {
//       initial: {home: 0, away: 0},
//       reduce: (state, message) => message.data,         // or (list, {data}) => [...list, data]
//     });
//     return <p>{state.home} : {state.away}</p>;
//   }
//
// With `snapshot` (src/web/README.md) the state begins with the application's,
// at first and after each loss; without it, `initial` is what it begins with anew
// when messages were lost, and `last` says how many of the history follow.
import {useEffect, useReducer, useRef} from "react";

const START = Symbol("start");

export function useTopic(isimud, topic, {initial, reduce, snapshot, last = 1, ...options}) {
	const latest = useRef();
	latest.current = {initial, reduce, snapshot}; // those of the last render, without subscribing again
	const [view, dispatch] = useReducer((view, event) => {
		if (event === START) return {state: latest.current.initial, id: undefined, error: undefined};
		switch (event.type) {
		case "message": return {state: latest.current.reduce(view.state, event), id: event.id};
		case "state": return {state: event.state, id: event.id};
		case "reset": return snapshotOf(latest) ? view : {state: latest.current.initial, id: event.id};
		default: return {...view, error: event.error};
		}
	}, undefined, () => ({state: initial, id: undefined}));
	const hasSnapshot = snapshot !== undefined;

	useEffect(() => {
		dispatch(START); // of another topic, or in StrictMode's second run
		const subscription = isimud.subscribe(topic, {
			...options,
			...hasSnapshot ? {snapshot: (signal) => latest.current.snapshot(signal)} : {last},
			message: dispatch,
			state: dispatch,
			reset: dispatch,
			error: (error) => dispatch({type: "error", error}),
		});
		return () => subscription.close();
	}, [isimud, topic, hasSnapshot]); // eslint-disable-line react-hooks/exhaustive-deps
	return view;
}

function snapshotOf(latest) {
	return latest.current.snapshot;
}
