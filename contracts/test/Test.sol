// SPDX-License-Identifier: AGPL-3.0-or-later
pragma solidity ^0.8.28;

/// @title The part of forge's cheatcodes that the tests here use.
/// @dev forge answers calls to the address below. A failing assertion reverts; the last argument says what it was about.
interface Vm {
    struct Log {
        bytes32[] topics;
        bytes data;
        address emitter;
    }

    function assertEq(uint256 left, uint256 right, string calldata what) external pure;
    function assertEq(address left, address right, string calldata what) external pure;
    function assertEq(bytes32 left, bytes32 right, string calldata what) external pure;
    function assertEq(bytes calldata left, bytes calldata right, string calldata what) external pure;
    function assertEq(string calldata left, string calldata right, string calldata what) external pure;
    function assertTrue(bool condition, string calldata what) external pure;
    function assertFalse(bool condition, string calldata what) external pure;
    function assertLe(uint256 left, uint256 right, string calldata what) external pure;

    /// @dev Drops this fuzz input.
    function assume(bool condition) external pure;
    /// @dev The next call must revert with exactly this data.
    function expectRevert(bytes calldata revertData) external;
    /// @dev The next call must revert, whatever with.
    function expectRevert() external;
    /// @dev The next call must emit the event that the test emits right after this, from `emitter`.
    function expectEmit(address emitter) external;
    /// @dev Keeps the events from here on for getRecordedLogs.
    function recordLogs() external;
    function getRecordedLogs() external returns (Log[] memory);

    /// @dev The next call comes from `sender`.
    function prank(address sender) external;
    function startPrank(address sender) external;
    function stopPrank() external;
    function deal(address who, uint256 balanceWei) external;
    function etch(address who, bytes calldata code) external;
    function load(address who, bytes32 slot) external view returns (bytes32);
    function store(address who, bytes32 slot, bytes32 value) external;
    function warp(uint256 timestamp) external;
    function roll(uint256 blockNumber) external;
    function chainId(uint256 id) external;
    function setBlockhash(uint256 blockNumber, bytes32 hash) external;
    /// @dev Remembers the state of the chain, for revertToState.
    function snapshotState() external returns (uint256 id);
    function revertToState(uint256 id) external returns (bool);
    function computeCreateAddress(address creator, uint256 nonce) external pure returns (address);
}

/// @title What every test contract starts from. Written here because forge-std is not on npm.
/// @dev forge runs functions whose name begins with `test` (those with arguments as fuzz tests) and, after random calls to
/// the target contracts, those whose name begins with `invariant`.
abstract contract Test {
    /// @dev An entry of targetSelectors().
    struct FuzzSelector {
        address addr;
        bytes4[] selectors;
    }

    Vm internal constant vm = Vm(0x7109709ECfa91a80626fF3989D68f67F5b1DD12D);

    address[] private _targets;
    FuzzSelector[] private _selectors;

    /// @notice Read by forge: the contracts that invariant runs call.
    function targetContracts() external view returns (address[] memory) {
        return _targets;
    }

    /// @notice Read by forge: the only functions of them that are called.
    function targetSelectors() external view returns (FuzzSelector[] memory) {
        return _selectors;
    }

    /// @dev Lets invariant runs call these functions of `target`, and nothing else.
    function _target(address target, bytes4[] memory selectors) internal {
        _targets.push(target);
        _selectors.push(FuzzSelector({addr: target, selectors: selectors}));
    }

    /// @dev A number of min..max (inclusive) that follows from a fuzzed one.
    function _bound(uint256 value, uint256 min, uint256 max) internal pure returns (uint256) {
        return min + value % (max - min + 1);
    }

    /// @dev A wallet that is no contract, by name.
    function _wallet(string memory name) internal pure returns (address) {
        return address(uint160(uint256(keccak256(bytes(name)))));
    }

    /// @dev `length` bytes that look like ciphertext and follow from `seed`.
    function _bytes(uint256 seed, uint256 length) internal pure returns (bytes memory data) {
        data = new bytes(length);
        for (uint256 start = 0; start < length; start += 32) {
            bytes32 word = keccak256(abi.encode(seed, start));
            uint256 left = length - start;
            if (left < 32) word &= bytes32(type(uint256).max << 8 * (32 - left));
            assembly ("memory-safe") {
                // The last word reaches into the array's padding, and is zero there.
                mstore(add(add(data, 32), start), word)
            }
        }
    }

    /// @dev Asserts that a call with this return value reverted with exactly `expected`.
    function _assertRevert(bool ok, bytes memory returned, bytes memory expected, string memory what) internal pure {
        vm.assertFalse(ok, what);
        vm.assertEq(returned, expected, what);
    }
}
