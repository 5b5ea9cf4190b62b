onmessage = ({ data: everyMs }) => setInterval(() => postMessage(0), everyMs);
