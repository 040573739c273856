// SPDX-License-Identifier: AGPL-3.0-or-later
pragma solidity ^0.8.28;

/// @title What prices are read from: the part of Uniswap v2's pair that is used here.
interface IUniswapV2Pair {
    function token0() external view returns (address);
    function token1() external view returns (address);

    /// @notice What the pair held after its last trade, in each token's smallest unit, and when that was (Unix seconds
    /// modulo 2^32).
    function getReserves() external view returns (uint112 reserve0, uint112 reserve1, uint32 blockTimestampLast);

    /// @notice Sum over the seconds up to blockTimestampLast of reserve1 / reserve0, as 112.112-bit fixed point. It may
    /// overflow; only differences have a meaning.
    function price0CumulativeLast() external view returns (uint256);

    /// @notice The same of reserve0 / reserve1.
    function price1CumulativeLast() external view returns (uint256);
}
