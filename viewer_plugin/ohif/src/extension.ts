export default { id: "x" };
